"""Quality: correlation with people's judgements, agreement with the teacher, translations found."""
