"""The application as OAuth2 and OpenID provider of the LMS."""
