package api

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
)

var noticeStates = []scheduler.NoticeState{scheduler.NoticePending, scheduler.NoticeSent, scheduler.NoticeDead}

// maxRunNotices bounds those that are shown with a run.
const maxRunNotices = 100

func (s *Server) listNotices(c echo.Context) error {
	if s.d.Outbox == nil {
		return errNoSchedule
	}
	limit, err := number(c, "limit", 1, 1000, 100)
	if err != nil {
		return err
	}
	state := scheduler.NoticeState(c.QueryParam("state"))
	if state != "" && !slices.Contains(noticeStates, state) {
		return invalid("state is %q, want one of %v", state, noticeStates)
	}
	list, next, err := s.d.Outbox.Notices(c.Request().Context(), scheduler.NoticeQuery{
		Notifier: c.QueryParam("notifier"), Run: c.QueryParam("run"), State: state, Before: c.QueryParam("before"), Limit: int(limit),
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page[scheduler.Notice]{noticesOf(list), next})
}

// noticesOf makes what is nil empty, as it is in JSON.
func noticesOf(notices []scheduler.Notice) []scheduler.Notice {
	for i := range notices {
		if len(notices[i].Body) == 0 {
			notices[i].Body = json.RawMessage("{}")
		}
	}
	return list(notices)
}

// runNotices are the newest notices of a run, oldest first.
func (s *Server) runNotices(c echo.Context, run string) ([]scheduler.Notice, error) {
	if s.d.Outbox == nil {
		return []scheduler.Notice{}, nil
	}
	notices, _, err := s.d.Outbox.Notices(c.Request().Context(), scheduler.NoticeQuery{Run: run, Limit: maxRunNotices})
	if err != nil {
		return nil, err
	}
	slices.Reverse(notices)
	return noticesOf(notices), nil
}

func (s *Server) retryNotice(c echo.Context) error {
	if s.d.Notifications == nil {
		return errNoSchedule
	}
	n, err := s.d.Notifications.Retry(c.Request().Context(), param(c, "notice"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, noticesOf([]scheduler.Notice{*n})[0])
}

func (s *Server) listNotifiers(c echo.Context) error {
	if s.d.Notifications == nil {
		return errNoSchedule
	}
	notifiers, err := s.d.Notifications.Notifiers(c.Request().Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page[scheduler.NotifierStatus]{Items: list(notifiers)})
}

func (s *Server) testNotifier(c echo.Context) error {
	if s.d.Notifications == nil {
		return errNoSchedule
	}
	name := param(c, "notifier")
	if err := s.d.Notifications.TestNotifier(c.Request().Context(), name); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]string{"notifier": name, "result": "sent"})
}
