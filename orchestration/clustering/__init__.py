"""Clusters: groups of alike subjects, fitted between runs, assigned in SQL, named by people; marketing and compliance apart."""
