"""The form of a graph that is fastest on this machine, inside the gate."""
