"""The application's side of the connection: a Django app that any project can install."""
