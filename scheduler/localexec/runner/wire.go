//go:build linux

package runner

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"millrace/scheduler"
)

// Proto is the version of the messages, and JournalVersion that of the journal. A change of [Message], or of the shape of scheduler.Launch
// or scheduler.Report, is a new Proto; testdata/wire.json pins them. The frame, [Message.Kind] and [Hello] must never change: a runner and a
// client of any two versions have to understand that much of each other.
const (
	Proto          = 4
	JournalVersion = 1
)

// MaxFrame bounds one message in bytes.
const MaxFrame = 64 << 20

// The kinds of messages. The client speaks first, with KindHello; everything it asks is answered by one KindDone with the same Seq.
const (
	KindHello     = "hello"     // client: Hello
	KindWelcome   = "welcome"   // runner: Welcome; the connection is the only one from here on
	KindLaunch    = "launch"    // client: Launch; done when all of them are claimed
	KindKill      = "kill"      // client: Kill
	KindReconcile = "reconcile" // client: IDs; done when the unknown ones are claimed as refused
	KindRefuse    = "refuse"    // client: IDs, Error; like reconcile, but the unknown ones are reported as refused, with Error as the reason
	KindDone      = "done"      // runner: Error, if the request was not carried out
	KindReports   = "reports"   // runner: Reports; the next ones follow the ack or nack of these
	KindAck       = "ack"       // client: Seq of the reports that it has committed
	KindNack      = "nack"      // client: Seq of the reports that it could not commit; what is news then is sent again
	KindBye       = "bye"       // client: it ends; the runner need not wait for its return
	KindReplaced  = "replaced"  // runner: another client has connected, this one must not come back
)

// Message is one frame: the length of the JSON in four bytes, most significant first, then the JSON. Fields that a kind does not name are
// absent.
type Message struct {
	Kind string `json:"kind"`
	// Seq pairs KindDone with its request and KindAck with its KindReports.
	Seq     uint64             `json:"seq,omitempty"`
	Hello   *Hello             `json:"hello,omitempty"`
	Welcome *Welcome           `json:"welcome,omitempty"`
	Launch  []scheduler.Launch `json:"launch,omitempty"`
	Kill    *Kill              `json:"kill,omitempty"`
	IDs     []string           `json:"ids,omitempty"`
	Reports []scheduler.Report `json:"reports,omitempty"`
	Error   string             `json:"error,omitempty"`
	Active  int                `json:"active"`
}

// Hello introduces a client.
type Hello struct {
	Proto int `json:"proto"`
	// Journal is the newest version of the journal that Argv can read.
	Journal int `json:"journal"`
	// Argv starts the client's own runner, and Exe is [ExeID] of Argv[0]: a runner of another build replaces itself by it.
	Argv []string `json:"argv,omitempty"`
	Exe  string   `json:"exe,omitempty"`
	// MaxLog bounds the output of an attempt in bytes, Idle how long a runner without anything to do waits for a client. 0 leaves both.
	MaxLog int64         `json:"max_log,omitempty"`
	Idle   time.Duration `json:"idle,omitempty"`
}

// Welcome answers Hello.
type Welcome struct {
	Proto int `json:"proto"`
	PID   int `json:"pid"`
	// Error says why the client can not be served, or is "".
	Error string `json:"error,omitempty"`
}

// Kill is what KindKill asks.
type Kill struct {
	ID    string        `json:"id"`
	Grace time.Duration `json:"grace"`
}

// WriteMessage writes one frame. It is not for concurrent use on one writer.
func WriteMessage(w io.Writer, m *Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", m.Kind, err)
	}
	if len(body) > MaxFrame {
		return fmt.Errorf("encode %s: %d bytes exceed %d", m.Kind, len(body), MaxFrame)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err = w.Write(append(frame, body...))
	return err
}

// ReadMessage reads one frame. io.EOF means that there is none.
func ReadMessage(r io.Reader) (*Message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("read message: %d bytes exceed %d", n, MaxFrame)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	m := new(Message)
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("decode message: %w", err)
	}
	return m, nil
}

// Dial connects to the runner of dir. It fails at once if there is none.
func Dial(dir string) (net.Conn, error) {
	var conn net.Conn
	err := inDir(dir, func(short string) (err error) {
		conn, err = net.DialTimeout("unix", filepath.Join(short, socketName), time.Second)
		return err
	})
	return conn, err
}

func listen(dir string) (*net.UnixListener, error) {
	var l *net.UnixListener
	err := inDir(dir, func(short string) (err error) {
		name := filepath.Join(short, socketName)
		// Whoever left it is gone: we hold the lock of the directory.
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false) // The short name means nothing after this function; and a successor may have the name by then.
		return os.Chmod(name, 0o600)
	})
	return l, err
}

// inDir calls use with a short name of dir: the address of a unix socket holds 107 bytes, less than many a path.
func inDir(dir string, use func(short string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return use(fmt.Sprintf("/proc/self/fd/%d", d.Fd()))
}
