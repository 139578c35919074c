# patterns.py
import graphc as gc

x, y, z, w = gc.input("x"), gc.input("y"), gc.input("z"), gc.input("w")
f = 2 * (x * y + gc.maximum(z, w))
g = x * x + 3 * x
