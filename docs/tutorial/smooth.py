# smooth.py
import graphc as gc

smooth = gc.define("y[n,i] = sum[k] x[n,i+k] * w[k]", x="N L", w="K", i="L-K+1")

x, w = gc.input("x", ("N", 12)), gc.input("w", (3,))
y = smooth(x, w)
loss = gc.sum(y ** 2) / 2
