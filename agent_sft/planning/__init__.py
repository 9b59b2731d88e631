"""From data to a deployed model in one plan: inspected, priced, approved, searched, trained, judged and served."""
