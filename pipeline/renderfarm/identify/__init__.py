"""Any copy of a picture → its record: `evidence` gathers what a file says, `lookup` finds records, `identify` answers."""
