"""Time: the database, the Celery task, replay, back-test, verification, reports and the command line."""
