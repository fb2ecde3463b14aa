"""What others check themselves against: the pages and hardware tables of formats/."""
