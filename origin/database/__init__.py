"""The origin's database: tables, migrations, and the queries of the library."""
