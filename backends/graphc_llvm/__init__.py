"""The LLVM backend: Programs to vector IR, object code and callables."""
