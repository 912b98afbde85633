"""What stands beside a graph that is handed out: the model card, the signature, the bill of materials."""
