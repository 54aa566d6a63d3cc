"""What the server does: draws cohorts, checks uploads, averages, keeps experts."""
