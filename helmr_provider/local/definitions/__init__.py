"""What a deployment declares: tasks, queues, retry policies and cron expressions.

May import `common`. Everything above may import it.
"""
