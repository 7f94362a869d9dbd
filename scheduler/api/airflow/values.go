package airflow

import (
	"encoding/json"

	"millrace/scheduler"
)

// Variable is Airflow's VariableResponse.
type Variable struct {
	Key         string  `json:"key"`
	Value       string  `json:"value"`
	Description *string `json:"description"`
	Encrypted   bool    `json:"is_encrypted"`
	Team        *string `json:"team_name"`
}

// Variables is Airflow's VariableCollectionResponse.
type Variables struct {
	Variables []Variable `json:"variables"`
	Total     int        `json:"total_entries"`
}

// NewVariables returns those that are no secrets: Airflow has no word for these. A value with a sensitive name is "***", as Airflow masks it.
func NewVariables(all []scheduler.Variable) []Variable {
	out := []Variable{}
	for i := range all {
		if v := &all[i]; !v.Secret {
			out = append(out, Variable{
				Key: v.Name, Value: v.Value, Description: orNil(v.Description), Encrypted: v.Origin == scheduler.FromStore && scheduler.Sensitive(v.Name),
			})
		}
	}
	return out
}

// Connection is Airflow's ConnectionResponse, without a password: it is null, or "***" if there is one.
type Connection struct {
	ID          string  `json:"connection_id"`
	Type        string  `json:"conn_type"`
	Description *string `json:"description"`
	Host        *string `json:"host"`
	Login       *string `json:"login"`
	Schema      *string `json:"schema"`
	Port        *int    `json:"port"`
	Password    *string `json:"password"`
	// Extra is JSON in a text.
	Extra *string `json:"extra"`
	Team  *string `json:"team_name"`
}

// Connections is Airflow's ConnectionCollectionResponse.
type Connections struct {
	Connections []Connection `json:"connections"`
	Total       int          `json:"total_entries"`
}

// NewConnection says a connection in Airflow's words.
func NewConnection(c *scheduler.Connection) Connection {
	out := Connection{
		ID: c.Name, Type: c.Type, Description: orNil(c.Description), Host: orNil(c.Host), Login: orNil(c.Login),
		Schema: orNil(c.Schema), Password: orNil(c.Password),
	}
	if c.Port != 0 {
		out.Port = &c.Port
	}
	if len(c.Extra) > 0 {
		if raw, err := json.Marshal(c.Extra); err == nil {
			out.Extra = orNil(string(raw))
		}
	}
	return out
}
