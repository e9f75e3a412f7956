"""What every page, card, table and picture is made with: `table`, `pages`, `plots`."""
