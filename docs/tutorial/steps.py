# steps.py
from mlp import W1, W2, b1, b2, loss, t, x

import graphc as gc

parameters = [W1, b1, W2, b2]
step = gc.compile([x, t], [loss], updates=gc.optim.SGD(lr=0.1).updates(loss, parameters), name="step")
