# adam.py
import graphc as gc

w = gc.param("w", ())
loss = (w - 3) ** 2
step = gc.compile([], [loss], updates=gc.optim.Adam(lr=0.1).updates(loss, [w]), name="step")
