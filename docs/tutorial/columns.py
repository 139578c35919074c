# columns.py
import graphc as gc

X, W, b = gc.input("X", (64, "N")), gc.param("W", (32, 64)), gc.param("b", (32, 1))
Z = W @ X + b
loss = gc.sum(gc.tanh(Z))
