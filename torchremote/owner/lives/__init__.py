"""Says how long modules without a name live: leases, who holds them, and the thread that ends them."""
