"""Students: what they are made of, how they learn, and a second language."""
