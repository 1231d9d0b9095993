"""The world: instruments, bars, files, scenarios, the paper exchange and the simulator."""
