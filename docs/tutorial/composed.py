# composed.py
import graphc as gc

x, y = gc.input("x"), gc.input("y")
b0, b1, b2, b3 = (gc.input(f"b{k}") for k in range(4))
w0, w1, w2, w3 = (gc.input(f"w{k}") for k in range(4))

f0 = b0 + w0 * x
h1 = gc.sin(f0)
f1 = b1 + w1 * h1
h2 = gc.exp(f1)
f2 = b2 + w2 * h2
h3 = gc.cos(f2)
f3 = b3 + w3 * h3
loss = (f3 - y) ** 2
