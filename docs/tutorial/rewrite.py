# rewrite.py
import graphc as gc

x = gc.input("x")
f = gc.log(1 + gc.exp(x))
