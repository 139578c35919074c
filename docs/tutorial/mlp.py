# mlp.py
import graphc as gc

x = gc.input("x", ("N", 64))
t = gc.input("t", ("N",), dtype="int64")
W1, b1 = gc.param("W1", (64, 32), init=gc.init.he_normal(seed=1)), gc.param("b1", (32,))
W2, b2 = gc.param("W2", (32, 10), init=gc.init.he_normal(seed=2)), gc.param("b2", (10,))

z1 = x @ W1 + b1
h1 = gc.relu(z1)
z2 = h1 @ W2 + b2
loss = gc.nn.cross_entropy(z2, t)
