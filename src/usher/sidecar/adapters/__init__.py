"""Describes the tables of each application as data. ``agent.py`` does not depend on this
package."""
