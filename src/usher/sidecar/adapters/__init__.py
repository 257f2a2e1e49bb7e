"""What the tables of each application mean, as data; ``agent.py`` knows nothing of them."""
