"""The ground: refusals, units, amounts, times and hints, which every room shares."""
