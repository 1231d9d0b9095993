"""The ground: refusals, numbers, units, amounts, times and hints, which every room shares."""
