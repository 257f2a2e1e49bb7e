"""Makes a released Tutor behave as its main branch (nightly), if this folder is on PYTHONPATH.

For plugins, templates and programs the branch differs only in the suffix of its version.
"""

try:
    from tutor import __about__ as about
except ModuleNotFoundError:
    pass  # not Tutor's Python
else:
    about.__version_suffix__ = "main"
    about.__version__ += "-main"
    about.__app__ += "-main"
