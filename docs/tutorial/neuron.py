# neuron.py
import graphc as gc

w0, x0, w1, x1, w2 = (gc.input(name) for name in ("w0", "x0", "w1", "x1", "w2"))
z = w0 * x0 + w1 * x1 + w2
f = 1 / (1 + gc.exp(-z))
s = gc.sigmoid(z)
