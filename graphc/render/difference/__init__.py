"""What a pass did to a graph: in words, and drawn before and after."""
