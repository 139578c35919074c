"""The language: leaves, operators, NumPy's functions, index notation and calculus over symbolic tensors."""
