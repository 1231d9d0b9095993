"""What people meet: the command line, the report, the calculator, the demo; nothing here decides."""
