import numpy as np


@np.errstate(all="ignore")
def step(x, t, W1, b1, W2, b2, lr):
    generic = x @ W1
    generic_2 = np.add(generic, b1, out=generic)
    generic_3 = np.maximum(generic_2, 0)
    generic_4 = generic_3 @ W2
    generic_5 = np.add(generic_4, b2, out=generic_4)
    generic_6 = np.max(generic_5, axis=1)
    generic_7 = np.subtract(generic_5, generic_6[:, None], out=generic_5)
    generic_8 = np.exp(generic_7)
    generic_9 = np.sum(generic_8, axis=1)
    generic_10_a = t[:, None] == np.arange(10)
    generic_10_b = np.where(generic_10_a, generic_7, 0)
    generic_10 = np.sum(generic_10_b, axis=1)
    generic_12_a = np.divide(generic_8, generic_9[:, None], out=generic_8)
    generic_12_b = np.where(generic_10_a, np.float32(1), 0)
    generic_12_c = np.subtract(generic_12_a, generic_12_b, out=generic_12_a)
    generic_12 = np.multiply(generic_12_c, 0.015625, out=generic_12_c)
    generic_11_a = np.log(generic_9)
    generic_11_b = generic_11_a - generic_10
    generic_11_c = generic_11_b * 0.015625
    generic_11 = np.sum(generic_11_c)
    generic_13 = generic_12 @ W2.T
    generic_14_a = generic_2 <= 0
    generic_14 = np.where(generic_14_a, 0, generic_13)
    generic_15 = x.T @ generic_14
    generic_17 = np.sum(generic_14, axis=0)
    generic_19 = generic_3.T @ generic_12
    generic_21 = np.sum(generic_12, axis=0)
    generic_16_a = np.multiply(generic_15, lr, out=generic_15)
    np.subtract(W1, generic_16_a, out=W1)
    generic_18_a = generic_17 * lr
    np.subtract(b1, generic_18_a, out=b1)
    generic_20_a = np.multiply(generic_19, lr, out=generic_19)
    np.subtract(W2, generic_20_a, out=W2)
    generic_22_a = generic_21 * lr
    np.subtract(b2, generic_22_a, out=b2)
    return generic_11
