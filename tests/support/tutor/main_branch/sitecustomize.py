"""On PYTHONPATH this makes a released Tutor its main branch (nightly).

All that the branch tells plugins, templates and programs is the suffix of its version.
"""

try:
    from tutor import __about__ as about
except ModuleNotFoundError:
    pass  # another Python than Tutor's
else:
    about.__version_suffix__ = "main"
    about.__version__ += "-main"
    about.__app__ += "-main"
