"""Questions in the form of SQuAD: read, cut to windows, answered by spans, scored."""
