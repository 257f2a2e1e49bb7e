"""The one page that learners see of this plugin: sign-in was stopped."""
