# conv.py
import graphc as gc

line = "y[n,o,i,j] = sum[c,k,l] x[n,c,i+k,j+l] * w[o,c,k,l]"
conv = gc.define(line, x="N C H W", w="O C K L", i="H-K+1", j="W-L+1")

x = gc.input("x", ("N", 3, 32, 32))
w = gc.param("w", (16, 3, 5, 5), init=gc.init.he_normal(seed=1, layout="oi"))
y = conv(x, w)
loss = gc.sum(gc.relu(y))
