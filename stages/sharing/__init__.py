"""What of a run goes to the Hub: its datasets and models, each with a card."""
