"""What a learner sees: catalog, course-run page, dashboard."""
