"""Rules: derivatives, algebra and numerics, as tables of rows and the sweeps that apply them."""
