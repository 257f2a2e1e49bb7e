"""Sign-out of application and LMS, also where browsers send no cookies in frames.

The application tells each LMS by a signed message (OpenID Connect Back-Channel Logout 1.0); the
LMS tells the application by one signed as its webhooks are.
"""
