"""How a student starts near its teacher: its weights fitted, layer by layer, before it is trained."""
