import numpy as np


def zero_where(test, x):
    """np.where(test, 0, x), by bits and so without a branch; whatever x holds there, a NaN too, is gone."""
    bits = f"i{x.itemsize}"
    keep = test.astype(bits)
    keep -= 1
    keep &= x.view(bits)
    return keep.view(x.dtype)


@np.errstate(all="ignore")
def step(x, t, W1, b1, W2, b2, lr):
    a = x @ W1
    h = np.add(a, b1, out=a)
    relu = np.maximum(h, 0)
    z0 = relu @ W2
    z = np.add(z0, b2, out=z0)
    top = z.max(axis=1)
    shifted = np.subtract(z, top[:, None], out=z)
    e = np.exp(shifted)
    s = e.sum(axis=1)
    own_a = t[:, None] == np.arange(10)
    own_b = np.where(own_a, shifted, 0)
    own = own_b.sum(axis=1)
    dz_a = np.divide(e, s[:, None], out=e)
    dz_b = np.where(own_a, np.float32(1), 0)
    dz_c = np.subtract(dz_a, dz_b, out=dz_a)
    dz = np.multiply(dz_c, 0.015625, out=dz_c)
    loss_a = np.log(s)
    loss_b = loss_a - own
    loss_c = loss_b * 0.015625
    loss = loss_c.sum()
    drelu = dz @ W2.T
    dh_a = h <= 0
    dh = zero_where(dh_a, drelu)
    dW2 = relu.T @ dz
    db2 = dz.sum(axis=0)
    dW1 = x.T @ dh
    db1 = dh.sum(axis=0)
    W2_new_a = np.multiply(dW2, lr, out=dW2)
    np.subtract(W2, W2_new_a, out=W2)
    b2_new_a = db2 * lr
    np.subtract(b2, b2_new_a, out=b2)
    W1_new_a = np.multiply(dW1, lr, out=dW1)
    np.subtract(W1, W1_new_a, out=W1)
    b1_new_a = db1 * lr
    np.subtract(b1, b1_new_a, out=b1)
    return loss
