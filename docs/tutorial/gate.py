# gate.py
import graphc as gc

x, y, z = gc.input("x"), gc.input("y"), gc.input("z")
q = x + y
f = q * z
