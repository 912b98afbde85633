"""The pages of docs that figures are written into."""
