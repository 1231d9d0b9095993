"""What people meet: the command line, Python's face, the report, the calculator, the demo; nothing here decides."""
