"""Archives that torch.jit.save wrote: loading them with their stubs connected, and inspecting them."""
