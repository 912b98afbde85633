"""What a student is made of: whole layers, narrower ones, fewer heads and neurons, or none at all."""
