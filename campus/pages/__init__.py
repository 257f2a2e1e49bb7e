"""Pages for learners: catalog, course-run page, dashboard."""
