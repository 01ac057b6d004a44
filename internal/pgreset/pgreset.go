// Package pgreset knows how to bring a session of PostgreSQL back to the state of
// a new one, for the adapters.
package pgreset

// Statements do what DISCARD ALL does, in one simple query, but for two things:
// the statements that libraries have prepared stay, since they would go on to use
// them, and so do the plans of these. What PREPARE has made goes. Names are those
// of the server's own schema, whatever a unit has put into its search path.
//
// See "DISCARD" in PostgreSQL's manual.
const Statements = "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; " +
	"SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD SEQUENCES; DISCARD TEMP; " + deallocate

const deallocate = `DO LANGUAGE plpgsql $dbscope$
DECLARE statement pg_catalog.text;
BEGIN
	FOR statement IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql LOOP
		EXECUTE pg_catalog.format('DEALLOCATE %I', statement);
	END LOOP;
END $dbscope$`
